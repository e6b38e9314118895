"""The console: a page that shows lineages, live and in the past, and acts on them; a process of its own."""
