"""What a comparison comes to: numbers, one page for a browser, pictures, and a table for a page of documentation."""
