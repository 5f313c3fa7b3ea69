"""The folder of versioned artifacts: `name@version` <-> `<root>/<name>/<version>/`."""
