#include <sqlite3.h>
#include <string.h>

static int take(void *result, int count, char **values, char **names)
{
	(void)count;
	(void)names;
	strncpy(result, values[0], 31);
	return 0;
}

/* Fills a database in memory, and asks it. */
int work(void *addr, size_t length)
{
	char result[32] = "";
	sqlite3 *db;

	(void)addr;
	(void)length;
	if (sqlite3_open(":memory:", &db) != SQLITE_OK)
		return 1;
	if (sqlite3_exec(db,
			 "create table t(n integer primary key, s text unique);"
			 "with recursive c(n) as (select 1 union all select n + 1 from c where n < 1000)"
			 "insert into t select n, hex(n * 7919) from c;"
			 "create index i on t(s desc); delete from t where n % 3 = 0;",
			 NULL, NULL, NULL) != SQLITE_OK)
		return 2;
	if (sqlite3_exec(db, "select sum(n) from (select n from t order by s)", take, result, NULL) != SQLITE_OK)
		return 3;
	sqlite3_close(db);
	return strcmp(result, "333667") == 0 ? 0 : 4;
}
