"""Foreign files and Hub layouts."""
