/* log_witness.c - the file that tells how far the log is on disk.
 *
 * Each group tells which of those before it are on disk; nothing in the log tells of the last ones,
 * nor of a whole file at its end, if that is lost or an older copy is put in its place. The witness
 * does, from outside. It only ever says what is true already, so it need not be synced: a power cut
 * may take it back, or tear it, and then there is the less to compare with. It is written over in
 * place, by whoever led a sync and has told everybody, and so seldom that it costs nothing.
 */
#include <errno.h>
#include <string.h>

#include "log_state.h"

int witness_open(struct log *log, struct witness *found, struct err *err)
{
	static const struct witness nothing;
	uint8_t bytes[UNIT];
	ssize_t got;
	int rc = log->os->open(log->dir, FILE_WITNESS, 0, &log->witness);

	*found = nothing;
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return err_set(err, rc, FILE_WITNESS ": cannot be opened");
	got = log->os->read(log->witness, bytes, sizeof(bytes), 0);
	if (got < 0)
		return err_set(err, (int)got, FILE_WITNESS ": cannot be read");
	rc = got < WITNESS_SIZE ? -ENODATA : witness_decode(found, log->options.store, bytes);
	if (rc == -EUCLEAN)
		return err_set(err, rc, FILE_WITNESS ": belongs to another store");
	if (got < UNIT) {		/* half made */
		log->os->close(log->witness);
		log->witness = NULL;
	}
	return 0;
}

int witness_make(struct log *log)
{
	static const uint8_t zeros[UNIT];
	int rc = log->os->open(log->dir, FILE_WITNESS, OS_CREATE, &log->witness);

	if (rc == 0)
		rc = log->os->write(log->witness, zeros, sizeof(zeros), 0);
	if (rc == 0)
		rc = log->os->sync(log->witness);
	if (rc == 0)
		rc = log->os->sync_dir(log->dir);
	if (rc < 0 && log->witness) {
		log->os->close(log->witness);
		log->witness = NULL;
	}
	return rc == -ENOSPC || rc == -EDQUOT ? 0 : rc;
}

bool witness_is_due(const struct log *log)
{
	return log->os->monotonic_ns(log->os) - atomic_load(&log->told_ns) >=
	       log->options.witness_ns;
}

int witness_tell(struct log *log)
{
	uint8_t bytes[WITNESS_SIZE];
	struct witness last;
	int rc = 0;

	mutex_lock(&log->telling);
	mutex_lock(&log->lock);
	last = log->synced_group;
	mutex_unlock(&log->lock);
	if (log->witness && last.number > log->told) {
		witness_encode(&last, log->options.store, bytes);
		rc = log->os->write(log->witness, bytes, sizeof(bytes), 0);
		log->told = last.number;
		log->unkept = true;
		atomic_store(&log->told_ns, log->os->monotonic_ns(log->os));
	}
	mutex_unlock(&log->telling);
	return rc < 0 ? log_die(log, rc, "writing", FILE_WITNESS) : 0;
}

int log_keep_witness(struct log *log)
{
	bool unkept;
	int rc = witness_tell(log);

	mutex_lock(&log->telling);
	unkept = log->unkept;
	log->unkept = false;
	mutex_unlock(&log->telling);
	if (rc == 0 && unkept)
		rc = log->os->sync(log->witness);
	return rc < 0 ? log_die(log, rc, "syncing", FILE_WITNESS) : 0;
}
