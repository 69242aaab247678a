// A descendant of zongji reads rows from a place in the binlog; run by zongji.py, in the folder it is installed in.
//
//   node zongji.js PACKAGE PORT FILE POSITION ROWS
//
// Prints "SECONDS CPU_SECONDS" from the first of so many rows to the last. Nothing is done with them.
"use strict";
const [name, port, filename, position, wanted] = process.argv.slice(2);
const loaded = require(require.resolve(name, { paths: [process.cwd()] }));
const ZongJi = loaded.default ?? loaded;
const zongji = new ZongJi({ host: "127.0.0.1", port: Number(port), user: "root", password: "" });
let rows = 0;
let began;
let used;

zongji.on("binlog", (event) => {
  if (!event.rows) return;
  if (began === undefined) {
    began = process.hrtime.bigint();
    used = process.cpuUsage();
  }
  rows += event.rows.length;
  if (rows >= Number(wanted)) {
    const cpu = process.cpuUsage(used);
    console.log(Number(process.hrtime.bigint() - began) / 1e9, (cpu.user + cpu.system) / 1e6);
    process.exit(0);
  }
});
zongji.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
zongji.start({
  serverId: 99005,
  filename,
  position: Number(position),
  includeEvents: ["rotate", "tablemap", "writerows", "updaterows", "deleterows"],
  includeSchema: { bench: true },
});
