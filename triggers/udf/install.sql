-- Makes the functions of syncbridge_udf.so known to the server: once, by an account that may write to mysql.func.
-- The library lies where SELECT @@plugin_dir points (make install). The functions survive restarts; the list of servers
-- does not: put SELECT gman_servers_set('127.0.0.1:4730'); into the server's init_file.
-- Functions of these names are replaced, those of gearman-mysql-udf too. All are dropped before the first is made: the
-- server lets go of an older library only when nothing of it is in use.

DROP FUNCTION IF EXISTS gman_do;
DROP FUNCTION IF EXISTS gman_do_high;
DROP FUNCTION IF EXISTS gman_do_low;
DROP FUNCTION IF EXISTS gman_do_background;
DROP FUNCTION IF EXISTS gman_do_high_background;
DROP FUNCTION IF EXISTS gman_do_low_background;
DROP FUNCTION IF EXISTS gman_servers_set;
DROP FUNCTION IF EXISTS gman_last_error;
DROP FUNCTION IF EXISTS gman_stats;
DROP FUNCTION IF EXISTS gman_json_object;
DROP FUNCTION IF EXISTS gman_json_array;
DROP FUNCTION IF EXISTS gman_json_values;
DROP FUNCTION IF EXISTS gman_json_members;
DROP FUNCTION IF EXISTS gman_option_set;
DROP FUNCTION IF EXISTS gman_sum;

CREATE FUNCTION gman_do RETURNS STRING SONAME 'syncbridge_udf.so';
CREATE FUNCTION gman_do_high RETURNS STRING SONAME 'syncbridge_udf.so';
CREATE FUNCTION gman_do_low RETURNS STRING SONAME 'syncbridge_udf.so';
CREATE FUNCTION gman_do_background RETURNS STRING SONAME 'syncbridge_udf.so';
CREATE FUNCTION gman_do_high_background RETURNS STRING SONAME 'syncbridge_udf.so';
CREATE FUNCTION gman_do_low_background RETURNS STRING SONAME 'syncbridge_udf.so';
CREATE FUNCTION gman_servers_set RETURNS STRING SONAME 'syncbridge_udf.so';
CREATE FUNCTION gman_last_error RETURNS STRING SONAME 'syncbridge_udf.so';
CREATE FUNCTION gman_stats RETURNS STRING SONAME 'syncbridge_udf.so';
CREATE FUNCTION gman_json_object RETURNS STRING SONAME 'syncbridge_udf.so';
CREATE FUNCTION gman_json_array RETURNS STRING SONAME 'syncbridge_udf.so';
CREATE FUNCTION gman_json_values RETURNS STRING SONAME 'syncbridge_udf.so';
CREATE FUNCTION gman_json_members RETURNS STRING SONAME 'syncbridge_udf.so';
CREATE FUNCTION gman_option_set RETURNS INTEGER SONAME 'syncbridge_udf.so';
CREATE AGGREGATE FUNCTION gman_sum RETURNS INTEGER SONAME 'syncbridge_udf.so';
