"""One module a page, each with `draw(sources)`. Pages draw; what they draw comes from dashboard.live."""
