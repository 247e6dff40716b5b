"""A folder of videos and images as the gallery of a search: found, cut into windows, embedded once, ranked."""
