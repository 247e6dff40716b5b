"""What every HTML page with tables and charts is made of, whoever's it is; a page needs nothing from elsewhere."""
