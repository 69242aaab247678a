-- Takes back what install.sql did. Triggers that still call these functions fail from then on: remove them first.

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
