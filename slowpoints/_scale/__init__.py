"""Searches that outgrow one process or one sitting."""
