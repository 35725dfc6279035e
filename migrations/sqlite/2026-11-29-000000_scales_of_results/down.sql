DROP TABLE result_scales;
