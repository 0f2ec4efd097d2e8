"""The loop: sessions, dispatcher, schedule, leases, attempts, recovery, outputs."""
