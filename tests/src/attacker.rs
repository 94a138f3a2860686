//! What an attacker would bring along: a program of a few tools, for calls that a shell cannot make.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command::read;

/// `swap A B`: exchanges two names for ever (renameat2(2)), and says so when it begins.
/// `peep`: stops each process that comes into its pid namespace, says whether that one's insides can be seen, and makes a
/// file `/seen.PID`.
/// `terminal`: tries to type into the terminal on stdin.
/// `key NAME PROGRAM…`: begins a session with a key of that name, and becomes the program.
/// `find-key NAME`: looks for it.
/// `keyring`: tells the name of the session keyring, or why it has none to tell of, by each call that could reach one.
/// `use-up-keys`: has all keys that a user may have until it ends, and says so.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int swap(const char *a, const char *b)
{
	printf("swapping\n");
	for (;;)
		if (syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */) && errno != EBUSY)
			return 1;
}

static int peep(void)
{
	char path[64], name[256];
	int last = getpid();

	printf("peeping\n");
	for (;;) {
		for (int pid = last + 1; pid < last + 16; pid++) {
			if (kill(pid, SIGSTOP))
				continue;
			last = pid;
			snprintf(path, sizeof path, "/proc/%d/exe", pid);
			ssize_t length = readlink(path, name, sizeof name - 1);
			name[length < 0 ? 0 : length] = 0;
			if (length < 0)
				printf(errno == EACCES ? "hidden\n" : "gone\n");
			else	/* The workload itself is the container's own. */
				printf(strstr(name, "busybox") ? "late\n" : "open\n");
			snprintf(path, sizeof path, "/seen.%d", pid);
			close(open(path, O_CREAT | O_WRONLY, 0600));
			kill(pid, SIGCONT);
		}
	}
}

static int terminal(void)
{
	int tty = open("/dev/tty", O_RDWR);

	printf("isatty %d\n", isatty(0));
	printf("/dev/tty %s\n", tty < 0 ? strerror(errno) : "opened");
	for (const char *key = "touch typed\n"; *key; key++)
		if (ioctl(0, TIOCSTI, key)) {
			printf("TIOCSTI %s\n", strerror(errno));
			break;
		}
	printf("TIOCSCTTY %s\n", ioctl(0, TIOCSCTTY, 0) ? strerror(errno) : "taken");
	printf("foreground %s\n", tcgetpgrp(0) < 0 ? strerror(errno) : "seen");
	printf("done\n");
	return 0;
}

static int key(const char *name, char **program)
{
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0)
		return perror("join"), 1;
	if (syscall(SYS_add_key, "user", name, "secret", 6L, KEY_SPEC_SESSION_KEYRING) < 0)
		return perror("add_key"), 1;
	execvp(*program, program);
	return perror(*program), 1;
}

static int find_key(const char *name)
{
	char text[16] = "";
	long key = syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", name, 0);

	if (key < 0)
		return printf("no key: %s\n", strerror(errno)), 0;
	syscall(SYS_keyctl, KEYCTL_READ, key, text, sizeof text - 1);
	printf("key: %s\n", text);
	return 0;
}

static int keyring(void)
{
	char text[256] = "";
	const char *name;

	if (syscall(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, text, sizeof text - 1) < 0) {
		printf("keyctl: %s\n", strerror(errno));
		syscall(SYS_add_key, "user", "x", "x", 1L, KEY_SPEC_SESSION_KEYRING);
		printf("add_key: %s\n", strerror(errno));
		syscall(SYS_request_key, "user", "x", NULL, 0);
		printf("request_key: %s\n", strerror(errno));
		return 0;
	}
	name = strrchr(text, ';');
	printf("%s\n", name ? name + 1 : text);
	return 0;
}

static int use_up_keys(void)
{
	char name[16];

	for (int i = 0; i < 1 << 20; i++) {
		snprintf(name, sizeof name, "%d", i);
		if (syscall(SYS_add_key, "user", name, "x", 1L, KEY_SPEC_PROCESS_KEYRING) >= 0)
			continue;
		printf("%s\n", strerror(errno));
		pause();
		return 0;
	}
	return 1;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	if (argc == 4 && !strcmp(argv[1], "swap"))
		return swap(argv[2], argv[3]);
	if (argc == 2 && !strcmp(argv[1], "peep"))
		return peep();
	if (argc == 2 && !strcmp(argv[1], "terminal"))
		return terminal();
	if (argc > 3 && !strcmp(argv[1], "key"))
		return key(argv[2], argv + 3);
	if (argc == 3 && !strcmp(argv[1], "find-key"))
		return find_key(argv[2]);
	if (argc == 2 && !strcmp(argv[1], "keyring"))
		return keyring();
	if (argc == 2 && !strcmp(argv[1], "use-up-keys"))
		return use_up_keys();
	return 2;
}
"#;

/// Puts the program at `path`.
pub fn install(path: &Path) -> Result<()> {
    let source = path.with_extension("c");
    std::fs::write(&source, SOURCE)?;
    read(Command::new("cc").args(["-static", "-w", "-o"]).arg(path).arg(&source)).map(drop)
}
