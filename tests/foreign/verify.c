/* verify STORE: opens a store that nobody has mounted, walks over all of it and says what is wrong
 * first; exits 1 then. */
#include <stdio.h>
#include <string.h>

#include "os.h"
#include "store.h"

int main(int argc, char **argv)
{
	const struct store_options options = { 0 };
	struct store *store = NULL;
	struct err err = { 0 };
	int rc;

	if (argc != 2) {
		fprintf(stderr, "usage: verify STORE\n");
		return 2;
	}
	rc = store_open(os_posix(), argv[1], &options, &store, &err);
	if (rc == 0)
		rc = store_verify(store, NULL, NULL, &err);
	if (rc < 0)
		fprintf(stderr, "%s: %s: %s\n", argv[1], strerror(-rc), err.text);
	return store_close(store) < 0 || rc < 0;
}
