"""What people read: text made safe, coloured and masked, bodies decoded, and how far a transfer is."""
