-- The role with which KEDA counts jobs. It sees what the query of scaling.yaml needs and nothing else. Run it once as the role that owns
-- the tables (that of VGGT_DB), after the first start of vggt; then ALTER ROLE vggt_scaler PASSWORD '...' with SCALER_PASSWORD of the
-- secret. To create a role, the owner needs CREATEROLE; else a superuser runs the first line.
CREATE ROLE vggt_scaler LOGIN CONNECTION LIMIT 5;
GRANT SELECT (user_id, state, size, priority, not_before) ON jobs TO vggt_scaler;
