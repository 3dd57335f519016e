"""Every training loop: jitted, donated steps over data on the device, scanned in chunks, resumable bit for bit."""
