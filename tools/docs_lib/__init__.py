# SPDX-License-Identifier: GPL-2.0-or-later
"""What `tools/docs` does: the manual from docs/, and what in it is made or checked by running kleaktrace."""
