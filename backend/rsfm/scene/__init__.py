"""A made-up landscape at 10 m, with truth everywhere: numpy and scipy only, files are the business of `rsfm.sample`."""
