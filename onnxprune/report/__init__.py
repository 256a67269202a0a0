"""What a run found, for people: one HTML file, Markdown, or JSON."""
