/* path.h - where something is, in one absolute name without symbolic links.
 */
#ifndef CUBBY_FS_PATH_H
#define CUBBY_FS_PATH_H

#include <limits.h>

/* As realpath(3), but the last step need not be there, nor be one that can be looked at (as a dead
 * mount cannot). 0, or a negative errno. */
int path_resolve(const char *given, char out[PATH_MAX]);

#endif
