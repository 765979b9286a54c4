-- Of the addresses that lead to one mailbox one is a user's. No index can say so: a log may hold two users of one mailbox, from
-- before addresses had this form, and a log always folds. So it is asked before an event is made.
alter table users add column mailbox text; -- the address in its canonical form; null only until the file is opened
create index users_by_mailbox on users (mailbox);
