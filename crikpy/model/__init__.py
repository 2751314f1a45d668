"""Frozen records that cross borders between rooms; the standard library only, no behaviour beyond arithmetic."""
