def render(manifest, tables): return {}
