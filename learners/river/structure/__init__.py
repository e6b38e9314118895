"""What a River model is made of: its parts, an outline to compare, and tables that note what they are asked about."""
