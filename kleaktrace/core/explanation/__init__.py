# SPDX-License-Identifier: GPL-2.0-or-later
"""What a text of kmemleak's means, without the machine it is from: who asked, how likely a leak is, what decides."""
