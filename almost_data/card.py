def front_matter(text): return {}
def viewer(manifest): return {}
def render(manifest, tables, figures, ancestors): return "# card\n"
