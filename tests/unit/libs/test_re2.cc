// RE2 as built: full matches, and linear time where a backtracking engine would hang.
#include "test.h"
#include <re2/re2.h>
#include <string>

TEST(re2_matches_in_linear_time)
{
    re2::RE2 ok("/api/v[0-9]+/.*", re2::RE2::Quiet), bad("a(b", re2::RE2::Quiet),
        nasty("(a*)*b", re2::RE2::Quiet);
    EXPECT(ok.ok() && !bad.ok() && nasty.ok());
    EXPECT(re2::RE2::FullMatch("/api/v12/x", ok));
    EXPECT(!re2::RE2::FullMatch("/api/v/x", ok));
    EXPECT(!re2::RE2::FullMatch(std::string(100000, 'a'), nasty));
}
