"""Every job as an algorithm of the Processing toolbox."""
