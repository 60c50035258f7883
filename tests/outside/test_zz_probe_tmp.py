import random
from collections import Counter, defaultdict
import psycopg, pytest
import test_audit_chain as t
from audit_chain import *
from test_audit_chain import not_events
from test_audit_chain import KINDS, own, databases, trail
from expect import refused
def test_probe(trail):
    print("\nbatches", [(b["first_seq"], b["last_seq"]) for b in trail.batches], trail.start["seq"], trail.head["seq"])
    whole = trail.state()
    texts = defaultdict(Counter); errs=Counter(); skipped=Counter(); n=0; bad=[]
    for seed in range(8000):
        rng = random.Random(seed)
        kind = rng.choice(KINDS)
        with trail.conn.transaction(force_rollback=True):
            kind(rng, trail)
            if trail.state() == whole:
                skipped[kind.__name__]+=1; continue
            try:
                with trail.conn.transaction(): found = findings(trail.conn)
            except psycopg.Error as e:
                bad.append((kind.__name__, seed, e.sqlstate, str(e))); continue
            if not found or any(ok for ok,*_ in found) or not all(f is not None and t for _,f,_,t in found): bad.append((kind.__name__,seed,found))
            texts[kind.__name__].update({t for *_,t in found})
            try:
                with trail.conn.transaction():
                    trail.conn.execute("SELECT a::text FROM fieldcrypt.audit AS a")
            except psycopg.Error as e: errs[e.sqlstate, str(e).split("\n")[0][:60], kind.__name__]+=1
    for k in KINDS: print(k.__name__, skipped[k.__name__], dict(texts[k.__name__]))
    print(errs)
    print("BAD", len(bad), bad[:20])
def test_view(trail):
    batch = next(b for b in trail.batches if b["last_seq"] > b["first_seq"])
    c=Counter()
    for n, made in enumerate(not_events(decode(batch["events"]))):
        with trail.conn.transaction(force_rollback=True):
            trail.put_one(batch, events=made)
            try:
                with trail.conn.transaction(): trail.conn.execute("SELECT * FROM fieldcrypt.audit"); c["shown"]+=1; print("shown", n, made[:300])
            except psycopg.Error as e: c[e.sqlstate, str(e).split("\n")[0]]+=1
    print(c)
def test_null(databases):
    _, long = databases
    rows = batches(long.conn)
    with long.conn.transaction(force_rollback=True):
        long.execute("ALTER TABLE fieldcrypt.audit_batch DROP CONSTRAINT audit_batch_pkey, ALTER first_seq DROP NOT NULL")
        insert(long.conn, "audit_batch", [{**rows[-1], "first_seq": None}])
        print("inserted NULL, long:", findings(long.conn), long.value("SELECT count(*) FROM fieldcrypt.audit"))
    for first in ((1<<63)-1, (1<<63)-2, (1<<63)-10):
        with long.conn.transaction(force_rollback=True):
            insert(long.conn, "audit_batch", [{**rows[-1], "first_seq": first, "last_seq": (1<<63)-1}])
            print(first, findings(long.conn))
            print(long.execute("SELECT min(seq), max(seq), count(*) FROM fieldcrypt.audit").fetchall())
