"""The ledger in PostGIS: schema, migrations, bulk writes, queries. Imports none of our packages."""
