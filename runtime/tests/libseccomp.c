/*
 * What libseccomp makes of a profile, for the tests to compare with.
 *
 * `names`: for each name on standard input a line with the name and its number on each architecture below, as
 *   seccomp_syscall_resolve_name_arch(3) gives it.
 * `all`: every name that some architecture has.
 * `filter`: reads
 *     default ACTION
 *     arch NAME
 *     rule ACTION CALL COUNT [INDEX OPERATOR VALUE SECOND]...
 *   and writes the program. Exits with 3 if a rule contradicts another one.
 */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const arches[] = {"x86_64", "x86", "x32", "aarch64", "arm", "riscv64"};
#define ARCHES (sizeof arches / sizeof *arches)

static int names(void)
{
	char name[128];

	while (scanf("%127s", name) == 1) {
		printf("%s", name);
		for (size_t i = 0; i < ARCHES; i++)
			printf(" %d", seccomp_syscall_resolve_name_arch(seccomp_arch_resolve_name(arches[i]), name));
		puts("");
	}
	return 0;
}

static int all(void)
{
	for (size_t i = 0; i < ARCHES; i++) {
		uint32_t token = seccomp_arch_resolve_name(arches[i]);
		int base = strcmp(arches[i], "x32") ? 0 : 1 << 30;

		for (int number = -250; number < 1024; number++) {
			char *name = seccomp_syscall_resolve_num_arch(token, number < 0 ? number : number | base);

			if (name)
				puts(name);
		}
	}
	return 0;
}

static int filter(void)
{
	scmp_filter_ctx ctx = NULL;
	char word[16], name[128];
	uint32_t action;
	unsigned count;

	while (scanf("%15s", word) == 1) {
		if (!strcmp(word, "default")) {
			if (scanf("%" SCNu32, &action) != 1 || !(ctx = seccomp_init(action)))
				return 1;
		} else if (!strcmp(word, "arch")) {
			if (scanf("%127s", name) != 1)
				return 1;
			int error = seccomp_arch_add(ctx, seccomp_arch_resolve_name(name));
			if (error && error != -EEXIST)
				return 1;
		} else {
			struct scmp_arg_cmp args[6];

			if (scanf("%" SCNu32 "%127s%u", &action, name, &count) != 3 || count > 6)
				return 1;
			for (unsigned i = 0; i < count; i++) {
				unsigned index, operator;

				if (scanf("%u%u%" SCNu64 "%" SCNu64, &index, &operator, &args[i].datum_a,
					  &args[i].datum_b) != 4)
					return 1;
				args[i].arg = index;
				args[i].op = operator;
			}
			int error = seccomp_rule_add_array(ctx, action, seccomp_syscall_resolve_name(name), count, args);
			if (error == -EEXIST)
				return 3;
			if (error) {
				fprintf(stderr, "%s: %s\n", name, strerror(-error));
				return 1;
			}
		}
	}
	return seccomp_export_bpf(ctx, STDOUT_FILENO) ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "names"))
		return names();
	if (argc == 2 && !strcmp(argv[1], "all"))
		return all();
	return filter();
}
