"""kmemleak's reports, and why it is on or off."""
