"""How a stage process lives: launchers (cold, fork), handle, hub, guard, private workspace."""
