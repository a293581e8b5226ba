// SPDX-License-Identifier: Apache-2.0
// What @redocly/openapi-core has to say of a document, a line for each problem. Usage: lint.cjs NODE_MODULES FILE
const path = require("path");
const fs = require("fs");
const { lintFromString, createConfig } = require(path.join(path.resolve(process.argv[2]), "@redocly/openapi-core"));

(async () => {
  const config = await createConfig({ extends: ["recommended"] });
  const source = fs.readFileSync(process.argv[3], "utf8");
  for (const p of await lintFromString({ source, absoluteRef: "openapi.json", config }))
    console.log(p.severity, p.ruleId, p.location.map((l) => l.pointer).join(" "), p.message);
})().catch((e) => {
  console.log("error", e.message);
  process.exit(1);
});
