"""What every endpoint does alike: version, plan, parameters, pages, formats."""
