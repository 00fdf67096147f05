import assert from "node:assert/strict";
import { test } from "node:test";
import {
  KeyNotLive,
  PreconditionFailed,
  type Profile,
  ProfileExists,
  receipt,
  responseOf,
  TenantExists,
} from "metaalign";
import { chat, client, FACTS, OTTER, PIRATE, unique } from "./support.js";

const BULLETS = FACTS.map((fact) => `- ${fact}`).join("\n");

test("a profile: versions, labels, diff, rollback, and the answers that follow it", async () => {
  const name = unique("guide");
  const made = await client.profiles.create({ name, preferences: { user: { attributes: { format: "bullets" } } } });
  const ask = async (): Promise<string> => {
    return (await client.align({ query: OTTER, preferences: { profile: name }, temperature: 0 })).text;
  };
  assert.equal(made.latest, 1);
  assert.equal(responseOf(made)?.status, 201);
  const second = await client.profiles.addVersion(name, { preferences: "Answer like a pirate.", note: "ahoy" });
  assert.equal(second.version, 2);
  assert.equal(second.note, "ahoy");
  await client.profiles.moveLabel(name, "stable", { version: 1 });
  assert.equal(await ask(), BULLETS);
  await client.profiles.moveLabel(name, "stable", { version: 2 });
  assert.equal(await ask(), PIRATE);
  const back = await client.profiles.rollBack(name, "stable");
  assert.deepEqual(back.labels["stable"]?.versions, [{ version: 1, weight: 100 }]);
  assert.equal(await ask(), BULLETS);

  const first = await client.profiles.version(name, 1);
  assert.equal(first.preferences.user instanceof Object && first.preferences.user.attributes?.["format"], "bullets");
  const diff = await client.profiles.diff(name, { from: 1, to: 2 });
  assert.ok(diff.changes.some(({ path, from }) => path.includes("format") && from === "bullets"));

  const canary = await client.profiles.moveLabel(name, "canary", { versions: [{ version: 1, weight: 9 }, { version: 2, weight: 1 }] });
  assert.equal(canary.labels["canary"]?.versions.length, 2);
  assert.equal("canary" in (await client.profiles.deleteLabel(name, "canary")).labels, false);

  const answer = await client.align({ query: OTTER }, { headers: { "x-metaalign-profile": `${name}:2` } });
  assert.deepEqual(receipt(answer)?.profiles, [`${name}:2`]);
  assert.deepEqual(receipt(responseOf(answer)?.headers ?? new Headers())?.profiles, [`${name}:2`]);
  await client.profiles.delete(name);
});

test("an etag guards against lost updates, and an idempotency key against doubled ones", async () => {
  const name = unique("guarded");
  const idempotencyKey = unique("key");
  const made = await client.profiles.create({ name, preferences: "Be brief." }, { idempotencyKey });
  const again = await client.profiles.create({ name, preferences: "Be brief." }, { idempotencyKey });
  assert.deepEqual(again, made);
  assert.equal(responseOf(again)?.headers.get("idempotent-replayed"), "true");
  await assert.rejects(client.profiles.create({ name, preferences: "Be brief." }), ProfileExists);
  const changed = await client.profiles.change(name, { learn: { examples: 1, scope: "user" } }, { etag: made.etag });
  assert.equal(changed.learn.examples, 1);
  await assert.rejects(client.profiles.change(name, { archived: true }, { etag: made.etag }), PreconditionFailed);
  await client.profiles.delete(name, { etag: changed.etag });
});

test("lists go over pages", async () => {
  const prefix = unique("page");
  const names = ["a", "b", "c", "d", "e"].map((end) => `${prefix}-${end}`);
  for (const name of names) await client.profiles.create({ name, preferences: { user: "Be kind." } });

  const seen: string[] = [];
  for await (const { name } of client.profiles.list({ limit: 2 })) if (name.startsWith(prefix)) seen.push(name);
  assert.deepEqual(seen, names);

  const pages: Profile[][] = [];
  for await (const page of client.profiles.list({ limit: 2, after: names[0] }).pages()) {
    assert.ok(page.data.length <= 2);
    pages.push(page.data.filter(({ name }) => name.startsWith(prefix)));
  }
  assert.deepEqual(pages.flat().map(({ name }) => name), names.slice(1));
  assert.equal((await client.profiles.list({ limit: 1 }).first()).data.length, 1);

  const [name = ""] = names;
  for (let version = 2; version <= 5; version += 1) {
    await client.profiles.addVersion(name, { preferences: { user: `Be kind, ${version}.` } });
  }
  const versions: number[] = [];
  for await (const { version } of client.profiles.versions(name, { limit: 2 })) versions.push(version);
  assert.deepEqual(versions, [5, 4, 3, 2, 1]);

  await client.profiles.change(name, { archived: true });
  const archived = async (query: object): Promise<boolean> => {
    for await (const profile of client.profiles.list(query)) if (profile.name === name) return true;
    return false;
  };
  assert.deepEqual([await archived({}), await archived({ archived: true })], [false, true]);
  for (const each of names) await client.profiles.delete(each);
});

test("export and import, as JSON and as YAML", async () => {
  const name = unique("carried");
  await client.profiles.create({ name, preferences: "Answer like a pirate." });
  const document = await client.profiles.export();
  const yaml = await client.profiles.exportYaml();
  assert.ok(document.profiles.some((profile) => profile.name === name));
  assert.match(yaml, new RegExp(`^- name: ${name}$`, "m"));
  assert.ok((await client.profiles.import(document)).unchanged.includes(name));
  assert.ok((await client.profiles.import(yaml)).unchanged.includes(name));
  await client.profiles.delete(name);
});

test("feedback teaches, and a user can be erased", async () => {
  const profile = unique("learner");
  const user = unique("ada");
  await client.profiles.create({
    name: profile,
    preferences: "Use a neutral tone.",
    learn: { examples: 3, scope: "user" },
  });
  const ask = () => client.chat.create({ ...chat(), user, preferences: { profile } });
  const first = await ask();
  assert.deepEqual(await client.feedback.give({ id: first.id, chosen: BULLETS }), { id: first.id, recorded: true });
  assert.equal(receipt(await ask())?.learned_examples, 1);
  assert.deepEqual(await client.feedback.erase(user), { exchanges: 2, feedback: 1, responses: 0 });
  await client.profiles.delete(profile);
});

test("tenants, keys and the audit log", async () => {
  const { admin } = client;
  const name = unique("zoo");
  const tenant = await admin.tenants.create({ name, policy: { attributes: { tone: "pirate" }, locked: ["tone"] } });
  await assert.rejects(admin.tenants.create({ name }), TenantExists);
  const changed = await admin.tenants.change(name, { limits: { requests_per_minute: 600 } }, { etag: tenant.etag });
  assert.equal(changed.limits.requests_per_minute, 600);
  await assert.rejects(admin.tenants.change(name, { disabled: true }, { etag: tenant.etag }), PreconditionFailed);
  assert.equal((await admin.tenants.get(name)).etag, changed.etag);
  const tenants: string[] = [];
  for await (const each of admin.tenants.list({ limit: 1 })) tenants.push(each.name);
  assert.ok(tenants.includes(name) && tenants.includes("default"));

  const key = await admin.keys.create({ tenant: name, scopes: ["inference"], name: "browser" });
  const browser = client.withOptions({ apiKey: key.key });
  const answer = await browser.align({ query: OTTER, preferences: { user: { attributes: { tone: "formal" } } }, temperature: 0 });
  assert.equal(answer.text, PIRATE);
  assert.equal(receipt(answer)?.overridden[0]?.by, "system:tenant");
  const rotated = await admin.keys.rotate(key.id, { grace_seconds: 0 });
  assert.ok((await admin.keys.revoke(rotated.id)).revoked_at);
  await assert.rejects(admin.keys.rotate(rotated.id), KeyNotLive);
  const ids: string[] = [];
  for await (const each of admin.keys.list({ tenant: name, limit: 1 })) ids.push(each.id);
  assert.deepEqual(ids.sort(), [key.id, rotated.id].sort());

  const actions: string[] = [];
  for await (const entry of admin.audit({ tenant: name, limit: 2 })) actions.push(entry.action);
  assert.deepEqual(
    actions.filter((action) => action !== "key.create"),
    ["key.revoke", "key.rotate", "tenant.update", "tenant.create"],
  );
  assert.deepEqual(await admin.erase({ tenant: name, user: "ada" }), { exchanges: 0, feedback: 0, responses: 0 });
});
