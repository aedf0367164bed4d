"""Ways to find machines, a module each; all of them tell what they see as Sightings."""
