DROP TABLE kept_spools;
