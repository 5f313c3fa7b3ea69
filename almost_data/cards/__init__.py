"""Cards: Markdown pages that document an artifact, rendered from its manifest."""
