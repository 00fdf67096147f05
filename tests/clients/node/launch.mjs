// Says by name what a program threw; loaded before it.
process.on("uncaughtException", (error) => {
  process.stderr.write(`\nRAISED ${error?.constructor?.name}\n${error?.message ?? error}\n`);
  process.exit(1);
});
