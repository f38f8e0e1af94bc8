"""The page Imagery: collections of rasters, what is known of each, and what the user says about them."""
