-- Makes the functions of syncbridge_udf.so known to the server: once, by an account that may write to mysql.func.
-- The library lies where SELECT @@plugin_dir points (make install). The functions survive restarts; the list of servers
-- does not: put SELECT gman_servers_set('127.0.0.1:4730'); into the server's init_file.
-- Functions of these names are replaced, those of gearman-mysql-udf too.

DROP FUNCTION IF EXISTS gman_do;
CREATE FUNCTION gman_do RETURNS STRING SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_do_high;
CREATE FUNCTION gman_do_high RETURNS STRING SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_do_low;
CREATE FUNCTION gman_do_low RETURNS STRING SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_do_background;
CREATE FUNCTION gman_do_background RETURNS STRING SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_do_high_background;
CREATE FUNCTION gman_do_high_background RETURNS STRING SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_do_low_background;
CREATE FUNCTION gman_do_low_background RETURNS STRING SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_servers_set;
CREATE FUNCTION gman_servers_set RETURNS STRING SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_last_error;
CREATE FUNCTION gman_last_error RETURNS STRING SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_stats;
CREATE FUNCTION gman_stats RETURNS STRING SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_json_object;
CREATE FUNCTION gman_json_object RETURNS STRING SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_json_array;
CREATE FUNCTION gman_json_array RETURNS STRING SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_json_values;
CREATE FUNCTION gman_json_values RETURNS STRING SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_json_members;
CREATE FUNCTION gman_json_members RETURNS STRING SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_option_set;
CREATE FUNCTION gman_option_set RETURNS INTEGER SONAME 'syncbridge_udf.so';
DROP FUNCTION IF EXISTS gman_sum;
CREATE AGGREGATE FUNCTION gman_sum RETURNS INTEGER SONAME 'syncbridge_udf.so';
