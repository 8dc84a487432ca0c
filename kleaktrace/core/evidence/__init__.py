# SPDX-License-Identifier: GPL-2.0-or-later
"""What verdicts go by: suspects, rounds, siblings, and what they have in common."""
