// The life of a mapping in C++, by Boost.Interprocess and fork: what c/life.c
// does in C. Debian package: libboost-dev.
//
//	life anonymous shared size rounds
#include <algorithm>
#include <boost/interprocess/anonymous_shared_memory.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace ipc = boost::interprocess;
using Clock = std::chrono::steady_clock;

static const char *const steps[] = { "map", "touch", "fork", "child", "access", "grow", "unmap" };
static std::map<std::string, std::vector<double>> took;
static std::map<std::string, double> faults;
static std::size_t size, page;

static long count()
{
	rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_minflt + u.ru_majflt;
}

struct Step {
	long before = count();
	Clock::time_point start = Clock::now();

	void done(const char *name)
	{
		took[name].push_back(std::chrono::duration<double, std::nano>(Clock::now() - start).count());
		faults[name] += double(count() - before);
	}
};

static std::uint64_t life()
{
	Step map;
	ipc::mapped_region m(ipc::anonymous_shared_memory(size));
	map.done("map");
	auto *p = static_cast<volatile unsigned char *>(m.get_address());
	Step touch;
	for (std::size_t i = 0; i < size; i += page)
		p[i] = 1;
	touch.done("touch");
	Step fork_step;
	pid_t pid = fork();
	if (pid == 0) {
		p[1] = 5;
		_exit(0);
	}
	fork_step.done("fork");
	int status = 0;
	waitpid(pid, &status, 0);
	fork_step.done("child");
	std::uint64_t sum = p[1] + std::uint64_t(status), total = 0;
	Step access;
	auto *w = reinterpret_cast<volatile std::uint64_t *>(m.get_address());
	for (std::size_t i = 0; i < std::min<std::size_t>(size, 65536) / 8; i++)
		total += w[i];
	sum += total & 0xff;
	access.done("access");
	Step grow;
	ipc::mapped_region larger(ipc::anonymous_shared_memory(2 * size));
	std::memcpy(larger.get_address(), m.get_address(), size);
	ipc::mapped_region().swap(m);
	grow.done("grow");
	p = static_cast<volatile unsigned char *>(larger.get_address());
	p[2 * size - 1] = 2;
	sum += 2 * p[2 * size - 1] + p[size - page];
	Step unmap;
	ipc::mapped_region().swap(larger);
	unmap.done("unmap");
	return sum;
}

static const char *crash()
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		std::raise(SIGSEGV);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? "the signal" : "nothing";
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	size = std::strtoul(argv[3], nullptr, 10);
	int rounds = std::atoi(argv[4]);
	page = std::size_t(sysconf(_SC_PAGESIZE));
	life(); // the first one warms up, and is not counted
	took.clear();
	faults.clear();
	std::uint64_t sum = 0;
	for (int i = 0; i < rounds; i++)
		sum += life();
	std::printf("result %llu\nnote grow copies\nnote crash %s\n", static_cast<unsigned long long>(sum / rounds), crash());
	for (auto *s : steps) {
		std::sort(took[s].begin(), took[s].end());
		std::printf("%s %.0f %.2f\n", s, took[s][rounds / 2], faults[s] / rounds);
	}
}
