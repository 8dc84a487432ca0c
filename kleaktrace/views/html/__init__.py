# SPDX-License-Identifier: GPL-2.0-or-later
"""The report as one HTML file, which asks nobody for anything. What runs in the browser lies here too: *.js, *.css."""
