"""What people read of a version: `report.md` and its plots."""
