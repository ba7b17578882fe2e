// Plots with numbers: what is counted, bought, grown, compared and ordered.
#include <array>

#include "datasets/story_plots.h"

namespace attar {
namespace {

constexpr std::string_view kObstacles[] = {"fell over a root",       "lost a shoe",         "slipped in the mud",
                                           "stopped to drink water", "took the wrong path", "got a stone in one shoe"};
constexpr std::string_view kLandmarks[] = {"tall pine",    "red gate", "church",
                                           "wooden bench", "big rock", "white fence"};
constexpr Person kSellers[] = {
    {"the baker", "baker", Gender::kMale},        {"the farmer", "farmer", Gender::kFemale},
    {"the old man", "man", Gender::kMale},        {"the old woman", "woman", Gender::kFemale},
    {"the miller", "miller", Gender::kMale},      {"the shepherd", "shepherd", Gender::kFemale},
    {"the gardener", "gardener", Gender::kFemale}};
constexpr Thing kCoin{"coin", "coins"};
constexpr Thing kSeed{"seed", "seeds"};

void bind_count(Story& s, char key, int n, const Thing& thing) { s.bind(key, counted(n, thing)); }
void bind_number(Story& s, char key, int n) { s.bind(key, number_word(n)); }

}  // namespace

void sharing_food(Story& s) {
  const Thing& food = pick_food(s, 'f');
  const bool second = s.chance(60);
  const int had = s.between(second ? 4 : 3, 10);
  const int gave = s.between(1, had - (second ? 2 : 1));
  const int middle = had - gave;
  const int again = second ? s.between(1, middle - 1) : 0;
  const int left = middle - again;
  bind_count(s, 'a', had, food);
  bind_count(s, 'b', gave, food);
  bind_number(s, 'c', gave);
  bind_number(s, 'd', again);
  introduce_hero(s);
  s.say("One [D], [R] gave [H] [a]{| {in a {bag|basket}|for lunch|to take to school|for the way}}.");
  s.say(
      "{{Near|At} the [P]|On the way to the [P]|On the road}, [H] met [F], {who was {very|so} hungry|who had nothing "
      "to eat|@ hungry "
      "[F.k]}.");
  s.maybe(60,
          "\"{I have not eaten {today|since yesterday}|I forgot my lunch|My bag is empty}, [H],\" said [F]{| in a "
          "small voice|"
          " sadly}.");
  s.say(
      "{[H.s] gave [F] [b]|[H.s] {took|counted} out [b] and gave {them|all of that} to [F]|\"You can have [b],\" said "
      "[H] to [F]|"
      "[H.s] was @ [T] [H.k], so [H.he] gave [F] [b]}.");
  quiz_count(s, "{Now|After that,|Then} [H] had", middle, {had, gave, had + gave}, food);
  if (second) {
    if (s.chance(50)) {
      s.say(
          "{A little later|Then|After a while} [G] came{| from the [L]} and asked for {@ [f]|some [f.m]}, {so|and} [H] "
          "gave [G.him] "
          "[d]{| more|| as well}.");
    } else {
      s.say(
          "{Later|Then|After that}, [H] {sat down {near|by} the [L] and ate|was hungry too and ate} [d]{| of [H.his] "
          "[f.m]}.");
    }
    quiz_count(s, "{So in the end|At the end of the day|When [H] got home}, [H.he] {still had|had only}", left,
               {middle, had, again}, food);
  }
  s.maybe(70,
          "{\"Thank you, [H], {the [f.m] are so good|you are very kind|these are the best [f.m]},\" said [F]|[F] ate "
          "{every bite|"
          "quickly} and {felt {much better|strong again}|was not hungry any more}}.");
  fact_count(s, "How many [f.m] did [H] have {left|in the end}?", "[H] was left with", left, {middle, had, gave}, food);
  fact_count(s, "How many [f.m] did [H] give to [F]?", "[H] gave [F]", gave, {had, middle, left}, food);
  fact_count(s, "How many [f.m] did [H] get from [R]?", "[R] gave [H]", had, {gave, middle, left}, food);
  fact_who(s, "Who was hungry {near|at} the [P]?", "The hungry one who got the [f.m] was", 'F', "HR");
  close(s, "shared [Z.his] [f.m]");
}

void market(Story& s) {
  const Thing& food = pick_food(s, 'f');
  const Thing& other = pick_food(s, 'g');
  const int coins = s.between(6, 14), price = s.between(1, 2), count = s.between(2, coins / price - 1);
  const int paid = price * count, left = coins - paid;
  bind_count(s, 'a', coins, kCoin);
  bind_count(s, 'b', count, food);
  bind_count(s, 'c', paid, kCoin);
  bind_count(s, 'e', price, kCoin);
  s.bind('S', s.pick(kSellers));
  introduce_hero(s);
  s.say(
      "One [D], [R] gave [H] [a] and {sent [H.him] to the market to buy [b].|said, \"Please go to the market and buy "
      "[b].\"}");
  s.maybe(50,
          "The market {near|by} the [L] was {full of people|busy and loud|very {busy|loud}}, and [H] could {smell|see} "
          "{fresh "
          "bread|flowers|warm soup|cheese and honey}.");
  if (food.noun != other.noun) {
    s.maybe(50,
            "{First|At first}, [H] looked at the [g.m], but {they were {too small|too old|not ripe|green and hard}|[R] "
            "did not "
            "{want|like} [g.m]|they cost too much}.");
  }
  s.say("[S] {sold|was selling} [f.m], {and each [f] cost [e]|for [e] each|at [e] for one [f]}.");
  s.maybe(60, "[H] asked, \"How much {is one [f]|do the [f.m] cost}{|, please}?\"");
  s.say("{So|Then} [H] bought [b] and {paid|gave [S]} [c].");
  quiz_count(s, "{After that, [H.he]|Now [H]|Then [H]} {had|had only}", left, {coins, paid, left + price}, kCoin);
  s.maybe(50, "\"{Thank you|Come again soon|Have a nice day}, [H],\" said [S]{| with a {smile|wave}}.");
  s.say(
      "{At home|Back home|In the kitchen}, [H] {gave|handed} the [f.m] to [R]{ and {told [R.him] about the market|put "
      "the coins "
      "on the table|said that everything was fine}|}.");
  s.maybe(
      70,
      "\"{Well done|You counted well|Good work|Now we can {bake|eat} together}, [H],\" said [R]{| and {kissed|hugged} "
      "[H.him]}.");
  fact_count(s, "How many coins did [H] have {left|after the market}?", "[H] came home with", left,
             {coins, paid, count}, kCoin);
  fact_count(s, "How many coins did [H] pay for the [f.m]?", "[H] paid [S]", paid, {coins, left, count}, kCoin);
  fact_count(s, "What did [H] buy from [S]?", "[H] bought", count, {coins, left, paid}, food);
  fact_from(s, "what", "What did [R] want from the market?", "[R] wanted some", food_plurals(), food.plural,
            {other.plural});
  close(s, "counted [Z.his] coins so well");
}

void garden(Story& s) {
  const Thing& plant = s.pick(vegetables());
  s.bind('v', plant, "");
  static constexpr Thing kThieves[] = {{"crow", "crows"}, {"snail", "snails"}, {"mouse", "mice"}, {"bird", "birds"}};
  const Thing& thief = s.pick(kThieves);
  const int sown = s.between(4, 12), lost = s.between(1, 3), grew = sown - lost;
  s.bind('w', thief.plural);
  bind_count(s, 'a', sown, kSeed);
  bind_count(s, 'b', lost, kSeed);
  bind_number(s, 'n', sown);
  bind_count(s, 'g', grew, plant);
  bind_number(s, 'd', s.between(3, 9));
  introduce_hero(s);
  s.say(
      "{In {spring|April|May}|When spring came|One [D] in spring}, [R] gave [H] [a]{| in a {paper bag|small cup}} and "
      "{said, "
      "\"These will be [v.m].\"|showed [H.him] a place in the garden.|told [H.him] to plant them.}");
  s.say(
      "{[H.s] {dug|made} [n] holes {behind the house|near the fence|in the soft ground} and {put|dropped} {a|one} seed "
      "in each {hole|"
      "one}|[H.s] put the [n] seeds into the {soft|dark|warm} ground {behind the house|near the fence}}.");
  s.say("{But|Then} {in the night|the next day|early one morning}, {some|hungry} [w] came and ate [b].");
  s.maybe(60,
          "{[H.s] was {sad|upset} {but did not give up|about the seeds}|[R] helped [H] to {build a little fence "
          "against the "
          "[w]|make a man of straw, so the [w] stayed away}}.");
  s.say(
      "{Every {day|morning|evening}|Each {day|morning|evening}}, [H] {watered the {ground|garden}|carried water from "
      "the "
      "[L]|pulled out the weeds}{ because {it had not rained|the sun was so hot|plants need water}| and waited for the "
      "[v.m]|}.");
  s.say(
      "{For [d] {days|weeks} nothing happened, but then [H] saw {the first leaves|something green}|After [d] "
      "{days|weeks}, "
      "{the first green leaves|little green leaves} {came up|could be seen}{ in [H.p] garden|}}.");
  quiz_count(s, "{In {summer|August|autumn}|When summer came|At last}, [H] {had|counted|picked}", grew,
             {sown, lost, sown + lost}, plant);
  s.maybe(60,
          "{\"{What a surprise|They are so big|I grew them myself},\" said [H]|[H] and [R] {cooked|picked} the [v.m] "
          "{together|for "
          "dinner|and sang}|[H] gave {the biggest|the best|one} of the [v.m] to [F]}.");
  fact_count(s, "How many [v.m] grew in [H]'s garden?", "In [H]'s garden there grew", grew, {sown, lost}, plant);
  fact_count(s, "How many seeds did the [w] eat?", "The [w] ate", lost, {sown, grew}, kSeed);
  fact_count(s, "How many seeds did [R] give to [H]?", "[H] got from [R]", sown, {grew, lost}, kSeed);
  close(s, "grown [Z.his] own [v.m]");
}

void race(Story& s) {
  s.bind('m', s.pick(kLandmarks));
  const std::string_view trip = s.pick(kObstacles);
  s.bind('w', trip);
  introduce_hero(s);
  s.say(
      "{One [D]|On the day of the fair}, {[H], [F] and [G]|[F], [G] and [H]|[G], [H] and [F]} {wanted to know who was "
      "the "
      "fastest|had a race|decided to race} {from the [L] to the [m]|around the [L]|to the [m] and back}.");
  s.maybe(
      50,
      "\"{Ready, steady, go|I will be faster than you|I bet that I will win},\" {shouted|cried|said} {[F]|[G]|[H]}.");
  std::array<char, 3> order{'H', 'F', 'G'};
  for (std::size_t i = 3; i > 1; --i) std::swap(order[i - 1], order[s.below(i)]);
  s.bind('1', s.person(order[0]));
  s.bind('2', s.person(order[1]));
  s.bind('3', s.person(order[2]));
  const bool trips = s.chance(70);
  s.say(
      "{At first|In the beginning|First}, [3] was {in front|ahead of [1]|faster than [1] and [2]}{, and [2] was {close "
      "behind|right "
      "behind [3.him]}|}.");
  if (trips) {
    s.say("{But|Then} {near the [m]|at the [P]|halfway}, [3] [w]{|, and that {took|cost} {some|much|a lot of} time}.");
    s.maybe(60,
            "{[2] stopped to {help|ask} [3]|[2] looked back at [3]}{|, and so [1] {ran past|got ahead of} {them|both "
            "of them}}.");
  } else {
    s.say(
        "{But [3] got {tired|slow}|But [3] {looked back too often|ran too fast at the start}}, so {[1] and [2] {ran "
        "past [3.him]|passed "
        "[3.him] {near|at} the [m]}|first [2] and then [1] {ran past [3.him]|passed [3.him]}}.");
  }
  const auto name = [&](char key) { return std::string(s.person(key).name); };
  const auto ended = [](std::string text) { return text + "."; };
  s.say(
      "{[1] {won the race|came in first|reached the [m] first}, and [2] came in {second|after [1.him]}|[1] was {faster "
      "than [2]|just "
      "ahead of [2]} {at the end|near the [m]} and won {the race|by a nose}|[2] ran well, but [1] was {even |a little "
      "|}faster and won}.");
  {
    auto others = std::vector<std::string>{
        ended(name('1')), ended(name('2')),
        ended(std::string(other_than(s, all_names(), {s.person('H').name, s.person('F').name, s.person('G').name})))};
    s.quiz("order",
           "{So the last {one|runner} to {come in|finish|reach the [m]} was|{Behind|After} [1] and [2], the last was}",
           ended(name('3')), others);
  }
  s.maybe(
      60,
      "{\"{Next time|Tomorrow|Next week} {I will win|I will run faster|we can race again},\" said [3]{| and "
      "laughed}|[1] {gave|handed} [3] {a "
      "flower|some water|half of the prize}|[R] gave [1] {a {small|golden|paper} crown|a {big|sweet} cake|a ribbon}}.");
  fact_who(s, "Who won the race?", "The race {around the [L]|to the [m]} was won by", '1', "23R");
  fact_who(s, "Who came in last?", "The last one at the [m] was", '3', "12R");
  fact_who(s, "Who came in second?", "Right after [1] came", '2', "13R");
  if (trips) {
    fact_from(s, "why", "Why did [3] lose the race?", "[3] lost because [3.he]", kObstacles, trip);
  }
  close(s, order[0] == 'H' ? "won the race" : "run so well");
}

void biggest(Story& s) {
  const Thing& plant = s.pick(vegetables().subspan(0, 8));  // the large ones
  s.bind('v', plant, "");
  std::array<char, 3> order{'H', 'F', 'G'};
  for (std::size_t i = 3; i > 1; --i) std::swap(order[i - 1], order[s.below(i)]);
  s.bind('1', s.person(order[0]));
  s.bind('2', s.person(order[1]));
  s.bind('3', s.person(order[2]));
  struct Measure {
    std::string_view more, most, least, how;
  };
  static constexpr Measure kMeasures[] = {{"bigger", "biggest", "smallest", "big"},
                                          {"heavier", "heaviest", "lightest", "heavy"},
                                          {"rounder", "roundest", "least round", "round"}};
  const Measure& m = s.pick(kMeasures);
  s.bind('a', m.more);
  s.bind('b', m.most);
  s.bind('e', m.least);
  s.bind('h', m.how);
  introduce_hero(s);
  s.say(
      "{Every {autumn|year}|In autumn}, there was a {fair|contest|feast} {at|near} the [P], {and|where} "
      "{everyone|people} brought "
      "{the best [v.m] from the garden|[v.m] to show}.");
  s.say("{This {year|time}|One [D]}, {[H], [F] and [G] each brought @ [v]|[F], [G] and [H] came with one [v] each}.");
  s.say(
      "{[S] {looked at|weighed|measured} the three [v.m]{ and {wrote something down|nodded|smiled}|}|\"The one with "
      "the [b] [v] {wins|"
      "gets the prize},\" said [S]}.");
  const bool top_first = s.chance(50);
  const std::string upper = "[1]'s [v] was {|much |a little }[a] than [2]'s{| [v]}.";
  const std::string lower = "[2]'s [v] was {|much |a little }[a] than [3]'s{| [v]}.";
  s.say(top_first ? upper : lower);
  s.say(std::string("{But |And |}") + (top_first ? lower : upper));
  const auto possessive = [&](char key) { return std::string(s.person(key).name) + "'s."; };
  s.quiz(
      "order", "{So|Of all three, } the {[b] [v]|[v] that was the [b]} was", possessive('1'),
      {possessive('2'), possessive('3'),
       std::string(other_than(s, all_names(), {s.person('H').name, s.person('F').name, s.person('G').name})) + "'s."});
  s.say(
      "{[S] gave [1] {a ribbon|the prize|a golden cup|a basket of {bread|cheese}}|[1] got {a ribbon|the prize|a golden "
      "cup} from [S]}"
      "{| and {everyone {clapped|cheered}|[2] clapped}|, and [3] was {not sad|a little sad}}.");
  s.maybe(70,
          "{\"{How did you grow it|What did you feed it}, [1],\" asked [3]|[3] said, \"{Next year my [v] will be the "
          "[b]|I gave my "
          "[v] too little water|My [v] is the [e], but it is {sweet|pretty}}.\"|{That evening|Then}, {they|the three "
          "friends} {cooked|ate|made soup "
          "with} all three [v.m]}.");
  fact_who(s, "Who had the [b] [v]?", "The [b] [v] belonged to", '1', "23S");
  fact_who(s, "Whose [v] was the [e]?", "The [e] [v] belonged to", '3', "12S");
  fact_who(s, "Who got {the prize|a prize} from [S]?", "[S] gave the prize to", '1', "23R");
  close(s, order[0] == 'H' ? "won the prize" : "seen so many [v.m]");
}

void basket_of_food(Story& s) {
  const Thing& food = pick_food(s, 'f');
  const int mine = s.between(2, 8);
  int yours = s.between(2, 8);
  while (yours == mine) yours = s.between(2, 8);
  const int all = mine + yours;
  const bool eaten = s.chance(60);
  const int ate = s.between(1, 3), left = eaten ? all - ate : all;
  bind_count(s, 'a', mine, food);
  bind_count(s, 'b', yours, food);
  bind_number(s, 'e', ate);
  s.bind('1', s.person(mine > yours ? 'H' : 'F'));
  s.bind('2', s.person(mine > yours ? 'F' : 'H'));
  introduce_hero(s);
  introduce_friend(s);
  s.say(
      "{One [D]|On [R]'s birthday}, [R] {said, \"Please {bring|find} me some [f.m].\"|wanted to bake and needed some "
      "[f.m].|asked [H] "
      "and [F] for some [f.m].}");
  s.say("{So|Then} [H] {went|ran|walked} to the [P], and [F] {went|ran|walked} to the [L]{| with a {bag|basket}}.");
  s.say("[H] {came back with|brought|found} [a], and [F] {came back with|brought|found} [b].");
  s.maybe(70,
          "{\"I have more [f.m] than you,\" said [1]|[1] had more [f.m] than [2]|[2] had fewer [f.m] than [1]}{| "
          "{and smiled|but {[2]|[2.he]} did not mind}}.");
  quiz_count(s, "{{Together|All together}, {they|the two friends|[H] and [F]} had|When [R] counted, there were}", all,
             {mine, yours, all + 1}, food);
  if (eaten) {
    s.say(
        "{But|Then} {the dog|a goat|a hungry bird|the cat|the baby} {took|stole|ate} [e] of {the [f.m]|them}{ when "
        "nobody was "
        "looking| from the {table|basket}|}.");
    quiz_count(s, "{So|That is why|Now} [R] {had only|was left with}", left, {all, mine, yours}, food);
  }
  s.say(
      "{With {the|those} [f.m]|From {the|those} [f.m]|In the afternoon}, [R] {{made|baked} a {big|sweet|wonderful} "
      "{cake|pie}|{made|cooked} {a big pot of jam|a {fine|sweet} "
      "pudding}}{| for {everyone|the children|[H] and [F]}}.");
  fact_count(s, "How many [f.m] did [H] bring?", "[H] brought", mine, {yours, all, left}, food);
  fact_count(s, "How many [f.m] did [F] bring?", "[F] brought", yours, {mine, all, left}, food);
  fact_count(s, "How many [f.m] were there in the end?", "[R] was left with", left, {all, mine, yours}, food);
  fact_who(s, "Who brought more [f.m]?", "More [f.m] were brought by", '1', "2R");
  close(s, "helped [R]");
}

}  // namespace attar
