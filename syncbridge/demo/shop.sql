-- The shop of `syncbridge demo`: an everyday schema, with some of what makes mirrors go wrong: NULLs, a JSON column,
-- decimals, fractional seconds, a composite key, an enum.
-- Run once on an empty server, statement by statement; makes the database `shop`.

CREATE DATABASE shop;

CREATE TABLE shop.customers (
  id            BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT,
  name          VARCHAR(80) NOT NULL,
  city          VARCHAR(40),
  preferences   JSON,
  password_hash VARBINARY(32) NOT NULL,
  created_at    TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
);

CREATE TABLE shop.products (
  sku   VARCHAR(20) PRIMARY KEY,
  name  VARCHAR(80) NOT NULL,
  price DECIMAL(10,2) NOT NULL,
  stock INT NOT NULL
);

CREATE TABLE shop.orders (
  id          BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT,
  customer_id BIGINT UNSIGNED NOT NULL,
  status      ENUM('draft', 'paid', 'shipped', 'returned') NOT NULL,
  total       DECIMAL(10,2) NOT NULL,
  note        TEXT,
  changed_at  DATETIME(6) NOT NULL
);

CREATE TABLE shop.order_lines (
  order_id BIGINT UNSIGNED,
  line     TINYINT UNSIGNED,
  sku      VARCHAR(20) NOT NULL,
  quantity SMALLINT NOT NULL,
  PRIMARY KEY (order_id, line)
);

CREATE TABLE shop.sessions (
  token       CHAR(16) PRIMARY KEY,
  customer_id BIGINT UNSIGNED NOT NULL,
  cart        BLOB,
  seen_at     DATETIME(3) NOT NULL
);
