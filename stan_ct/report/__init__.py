"""Reports as data, and as files: HTML, Markdown, CSV, JSON and figures. Knows neither CT nor measuring."""
