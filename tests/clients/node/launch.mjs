// Says by name what a program threw; loaded before it. Some have no class of their own, but a name.
process.on("uncaughtException", (error) => {
  const kind = error?.constructor?.name;
  const name = ["Error", "DOMException"].includes(kind) ? error.name : kind;
  process.stderr.write(`\nRAISED ${name}\n${error?.message ?? error}\n`);
  process.exit(1);
});
