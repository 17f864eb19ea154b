"""From a run to one script: reachable code, folded, minified, compressed, proven equal to the package."""
