"""The documents as a site: ``make docs``. Links are strict, search works offline, nothing is loaded from elsewhere."""

project = "Holdfast"
extensions = ["myst_parser"]
root_doc = "site/index"
exclude_patterns = ["site/html"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "Holdfast"
html_copy_source = False
html_show_sphinx = False
# Files of the repository that documents point to are no pages of the site.
suppress_warnings = ["misc.highlighting_failure"]
nitpicky = True
