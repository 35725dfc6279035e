DROP TABLE login_counts;
DROP TABLE last_logins;
